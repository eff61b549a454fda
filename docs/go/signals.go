package constructs

import (
	"os"
	"os/signal"
	"syscall"
)

// show
func untilSignal() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	<-stop
	signal.Stop(stop) // a second signal ends the process
}
