"""Messages to people about broken models, checks and jobs of a product, and about their recovery."""
