"""How the training images are dealt to the clients, and the test images beside them."""
