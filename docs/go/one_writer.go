package constructs

// show
// mu, with room for one element, is a lock.
func whole(mu chan bool, c conn, message []byte) error {
	mu <- true
	defer func() { <-mu }()
	return c.WriteMessage(1, message)
}
