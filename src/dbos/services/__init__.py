"""What an engine does by itself while it is launched: leases, failover, dispatch."""
