package constructs

// show
func (h *hub) all(message []byte) {
	for c := range h.clients {
		select {
		case c.send <- message:
		default: // no room: the client is too slow
			close(c.send)
			delete(h.clients, c)
		}
	}
}
