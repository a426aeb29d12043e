"""What several agents share: networks, policies, GAE, the Stable-Baselines3 adapter."""
