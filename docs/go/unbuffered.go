package constructs

// show
func hello(h *hub, c *client) {
	h.register <- c          // returns when the hub has c,
	h.broadcast <- []byte{1} // so c gets its own message
}
