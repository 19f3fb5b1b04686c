"""How well finished slides agree with their reference, and where the ensemble was uncertain."""
