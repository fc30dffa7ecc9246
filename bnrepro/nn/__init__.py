"""What the paper is about: batch normalization, and the networks it stands in."""
