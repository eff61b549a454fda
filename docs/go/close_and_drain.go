package constructs

// show
func drain(ch <-chan []byte) (all [][]byte) {
	for n := len(ch); n > 0; n-- {
		all = append(all, <-ch)
	}
	return all
}

func isOver(ch <-chan []byte) bool {
	_, ok := <-ch // buffered values come first
	return !ok
}
