package constructs

// show
func buffered() (int, int) {
	ch := make(chan []byte, 256)
	ch <- []byte("hello") // there is room: no wait
	return len(ch), cap(ch)
}
