"""Mario's pizzeria: orders come in over HTTP, and what has to happen later is scheduled."""
