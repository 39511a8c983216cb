"""What is wrong on the way to our names, asked and judged from the outside (`isthmus dns check`)."""
