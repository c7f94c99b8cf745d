"""More than one machine, on Ray: nodes that train, and a server whose store they share."""
