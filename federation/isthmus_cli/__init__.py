"""The `isthmus` command: the one place that composes controller, gateway and DNS."""
