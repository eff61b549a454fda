package constructs

// show
func (c *client) readAll(h *hub) {
	for {
		_, message, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		h.broadcast <- message // reads nothing while it waits
	}
}
