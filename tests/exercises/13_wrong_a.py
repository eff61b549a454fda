"""A shutdown ends the connection, but the number is still released too early."""

import socket
import threading


def serve(sock, read_pump, write_pump):
    thread = threading.Thread(target=write_pump, args=(sock.fileno(),), daemon=True)
    thread.start()
    read_pump(sock.fileno())
    sock.shutdown(socket.SHUT_RDWR)
    sock.close()
