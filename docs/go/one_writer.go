package constructs

// show
// mu has room for one element, so it works as a lock.
func whole(mu chan bool, c conn, message []byte) error {
	mu <- true
	defer func() { <-mu }()
	return c.WriteMessage(1, message)
}
