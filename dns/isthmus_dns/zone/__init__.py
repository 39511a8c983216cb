"""What the feed says, the records that makes, and every answer compiled before it is asked for. Pure."""
