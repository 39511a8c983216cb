"""The processes: a supervisor, the workers that it keeps running, and the web page of their state."""
