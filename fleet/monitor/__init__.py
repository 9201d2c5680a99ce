"""What the fleet says of itself: a pure model, and the faces that show it."""
