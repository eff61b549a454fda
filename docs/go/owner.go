package constructs

// show
func (h *hub) run() {
	h.clients = map[*client]bool{} // used by no other goroutine
	for {
		h.next()
	}
}
