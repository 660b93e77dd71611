"""The hands that ask: an exchange in, a verdict out. Moderators wrap moderators, so each concern is one small file."""
