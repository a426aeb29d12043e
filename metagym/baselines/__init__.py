"""What reinforcement learning has to beat: supervised methods that learn to learn."""
