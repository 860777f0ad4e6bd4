"""One process for many WSGI apps: the Host header picks the app, the code is shared by fork."""
