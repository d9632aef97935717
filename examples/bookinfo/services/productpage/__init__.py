"""The page that a browser sees: details and reviews of a book, and who is signed in."""
