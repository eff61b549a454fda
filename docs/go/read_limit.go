package constructs

// show
func readLimited(c conn) ([]byte, error) {
	c.SetReadLimit(512) // bytes
	_, message, err := c.ReadMessage()
	return message, err
}
