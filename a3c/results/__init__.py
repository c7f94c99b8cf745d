"""What is done with trained runs: play and score them, film, plot, report, study, ship."""
