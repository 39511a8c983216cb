"""The isthmus command, the one place that composes everything."""
