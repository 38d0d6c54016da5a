"""What every supernet shares: text, training, measuring, fine-tuning and deployment."""
