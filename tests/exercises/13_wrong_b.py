"""No thread closes the socket."""

import threading


def serve(sock, read_pump, write_pump):
    thread = threading.Thread(target=write_pump, args=(sock.fileno(),), daemon=True)
    thread.start()
    read_pump(sock.fileno())
    thread.join()
