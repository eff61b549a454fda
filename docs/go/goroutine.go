package constructs

// show
func start(h *hub, c *client) {
	h.register <- c
	go c.writePump() // no name, no handle
	go c.readPump()
}
