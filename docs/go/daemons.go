package constructs

// show
func mainReturns(work func()) {
	go work()
	// The process ends here, whatever work does.
}
