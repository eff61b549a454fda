"""Exercise 13, hard, fix: a descriptor that belongs to somebody else.

`serve` runs the two pumps of a connection, and then closes the connection's socket. Each pump uses
the socket's descriptor number. Once the socket is closed, the system gives that number to the next
connection. Fix `serve` so that no pump writes to another connection. It must still close the socket
at the end.
"""

import threading


def serve(sock, read_pump, write_pump):
    thread = threading.Thread(target=write_pump, args=(sock.fileno(),), daemon=True)
    thread.start()
    read_pump(sock.fileno())
    sock.close()
