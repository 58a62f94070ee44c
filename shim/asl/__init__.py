"""State machines in Amazon States Language: what their text means, and what SSM gets to run."""
