package constructs

// show
func closeWhenFull() (int, bool) {
	ch := make(chan int, 1)
	ch <- 7
	close(ch) // needs no room
	<-ch
	v, ok := <-ch
	return v, ok // 0, false
}
