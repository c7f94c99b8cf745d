"""Trained models, one folder a game; `a3c models` lists them, a3c/run/models.py finds them."""
