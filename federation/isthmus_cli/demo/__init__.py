"""`isthmus demo`: a federation of three clusters on one machine, with a story that counts every request."""
