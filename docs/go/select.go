package constructs

// show
func (h *hub) next() {
	select {
	case c := <-h.register:
		h.clients[c] = true
	case c := <-h.unregister:
		delete(h.clients, c)
	case message := <-h.broadcast:
		h.all(message)
	}
}
