"""The gateway agent: sources, routing, Envoy's resources and the Envoy it supervises."""
