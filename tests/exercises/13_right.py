"""Closes the socket only when neither thread uses its number."""

import threading


def serve(sock, read_pump, write_pump):
    thread = threading.Thread(target=write_pump, args=(sock.fileno(),), daemon=True)
    thread.start()
    read_pump(sock.fileno())
    thread.join()
    sock.close()
