package constructs

// show
func closeTwice(ch chan int) (what any) {
	defer func() { what = recover() }()
	close(ch)
	close(ch) // panics
	return nil
}
