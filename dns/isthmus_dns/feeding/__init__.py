"""How the zone comes here: from the gateway's agent, or from the supervisor that kept it."""
