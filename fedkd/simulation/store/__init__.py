"""What a run keeps: checkpoints, memories of clients, answers of a round."""
