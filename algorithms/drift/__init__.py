"""Methods of one global model against the clients' drift; one module each."""
