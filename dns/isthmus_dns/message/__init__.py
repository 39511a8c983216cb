"""What stands in a DNS message: its bytes, and a query read strictly. Pure."""
