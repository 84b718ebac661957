"""One way of making synthetic rollouts per file; the folder is the registry."""
