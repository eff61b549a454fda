package constructs

// show
func (h *hub) run() {
	h.clients = map[*client]bool{} // no other goroutine uses it
	for {
		h.next()
	}
}
