package constructs

// show
func wake(ready chan<- bool, work func()) {
	ready <- true // the receiver is ready now,
	work()        // and this goroutine goes on
}
