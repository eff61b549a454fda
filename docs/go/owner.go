package constructs

// show
func (h *hub) run() {
	h.clients = map[*client]bool{} // its own alone
	for {
		h.next()
	}
}
