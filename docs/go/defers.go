package constructs

// show
func pump(h *hub, c *client) {
	defer func() { // also after a panic
		h.unregister <- c
		c.conn.Close()
	}()
	c.readPump()
}
