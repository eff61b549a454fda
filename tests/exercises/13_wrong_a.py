"""Ends the connection with shutdown, but still releases the number too early."""

import socket
import threading


def serve(sock, read_pump, write_pump):
    thread = threading.Thread(target=write_pump, args=(sock.fileno(),), daemon=True)
    thread.start()
    read_pump(sock.fileno())
    sock.shutdown(socket.SHUT_RDWR)
    sock.close()
