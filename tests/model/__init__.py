"""The protocol of a bundle, explored exhaustively on the code that ships."""
