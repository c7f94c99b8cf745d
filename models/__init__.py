"""Trained models, one folder a game; `a3c models` lists them, a3c/models.py finds them."""
