package constructs

// show
func empty(clients map[*client]bool) {
	for c := range clients { // in any order
		delete(clients, c) // allowed in the loop
	}
}
